#pragma once
typedef struct { unsigned pages[8]; } compute_res_vtcm_page_t;
typedef struct { unsigned long long parameters[16]; } compute_res_attr_t;
int HAP_compute_res_attr_init(compute_res_attr_t* attributes);
int HAP_compute_res_attr_set_serialize(compute_res_attr_t* attributes, unsigned char serialize);
int HAP_compute_res_attr_set_vtcm_param(compute_res_attr_t* attributes, unsigned size,
                                        unsigned char single_page);
void* HAP_compute_res_attr_get_vtcm_ptr(compute_res_attr_t* attributes);
unsigned HAP_compute_res_acquire(compute_res_attr_t* attributes, unsigned timeout_us);
int HAP_compute_res_release(unsigned context);
int HAP_compute_res_query_VTCM(unsigned application, unsigned* total,
                               compute_res_vtcm_page_t* total_layout, unsigned* available,
                               compute_res_vtcm_page_t* available_layout);
